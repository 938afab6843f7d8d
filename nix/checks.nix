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
# For each supported version of Nix, the functional tests that a builder can run, and machines of NixOS.
// lib.mapAttrs' (
  name: nix:
  lib.nameValuePair "functional-tests-${name}" (
    pkgs.callPackage ./functional-tests.nix {
      inherit nix;
      plugin = all.pluginFor nix;
      bundle = all.bundleOf [ nix ];
    }
  )
) all.nixVersions
// lib.mapAttrs' (
  name: nix: lib.nameValuePair "nixos-${name}" (import ./nixos-test.nix { inherit pkgs nix; })
) all.nixVersions
