# For use without flakes: `nix-build -A packages.default` or `import ./. { inherit pkgs; }`.
{
  pkgs ? import <nixpkgs> { },
}:
import ./nix { inherit pkgs; }
// {
  overlay = import ./nix/overlay.nix;
  withNegativeCache = import ./nix/with-negative-cache.nix pkgs;
  # Modules are imported by their path, because an import can't depend on `pkgs`.
  nixosModule = ./nix/modules/nixos.nix;
  homeModule = ./nix/modules/home.nix;
}
