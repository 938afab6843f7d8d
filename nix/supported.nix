# The releases of Nix that there is a plugin for. Everything else in this folder takes them from this list.
[
  "2.8"
  "2.26"
  "2.28"
  "2.31"
  "2.34"
  "2.35"
  "2.36"
]
