# Without flakes: `nix-build -A packages.default`, `import ./. { inherit pkgs; }`.
{
  pkgs ? import <nixpkgs> { },
}:
import ./nix { inherit pkgs; }
// {
  overlay = import ./nix/overlay.nix;
  withNegativeCache = import ./nix/with-negative-cache.nix pkgs;
  # NixOS modules are imported by their path, as what is imported can't depend on pkgs.
  nixosModule = ./nix/modules/nixos.nix;
  darwinModule = ./nix/modules/darwin.nix;
  homeModule = ./nix/modules/home.nix;
}
