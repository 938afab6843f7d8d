# The programs of Nix that take the plugin's flags.
[
  "nix"
  "nix-build"
  "nix-env"
  "nix-instantiate"
  "nix-shell"
  "nix-store"
]
