# The releases of Nix that the plugin is built for; everything else in this folder goes by this list.
[
  "2.8"
  "2.26"
  "2.28"
  "2.31"
  "2.34"
  "2.35"
]
