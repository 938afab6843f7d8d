# What `nix flake check` builds.
{ pkgs }:
let
  inherit (pkgs) lib;
  all = import ./. { inherit pkgs; };
in
# The packages run their unit tests when they are built.
all.packages
// {
  dev-shell = all.devShell;
  shell = import ./with-negative-cache.nix pkgs (pkgs.mkShell { });

  format =
    pkgs.runCommand "nix-negative-cache-format"
      {
        inherit (import ./common.nix { inherit lib; }) src;
        nativeBuildInputs = [
          pkgs.cargo
          pkgs.rustfmt
        ];
      }
      ''
        export CARGO_HOME=$TMPDIR
        cd "$src"
        cargo fmt --all --check
        touch "$out"
      '';
}
# One virtual machine for each supported version of Nix.
// lib.mapAttrs' (
  name: nix: lib.nameValuePair "nixos-${name}" (import ./nixos-test.nix { inherit pkgs nix; })
) all.nixVersions
