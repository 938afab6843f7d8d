# The programs of Nix that the shim stands in for.
[
  "nix"
  "nix-build"
  "nix-env"
  "nix-instantiate"
  "nix-shell"
  "nix-store"
]
