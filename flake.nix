{
  description = "A Nix plugin that remembers the derivations whose builders failed, and does not build them again";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forAllSystems =
        f:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] (
          system: f nixpkgs.legacyPackages.${system}
        );

      # Plugins have the ABI of exactly one build of Nix: that of `nix`.
      plugin =
        {
          lib,
          rustPlatform,
          pkg-config,
          nix,
          boehmgc,
          boost,
          nlohmann_json,
          sqlite,
        }:
        rustPlatform.buildRustPackage {
          pname = "nix-negative-cache";
          version = (lib.importTOML ./Cargo.toml).workspace.package.version;
          src = self;
          cargoLock.lockFile = ./Cargo.lock;
          nativeBuildInputs = [ pkg-config ];
          buildInputs = [
            nix
            boehmgc
            boost
            nlohmann_json
            sqlite
          ];
          # The functional tests build derivations, which a builder may not.
          cargoTestFlags = [
            "--package=nix-negative-cache-core"
            "--package=nix-negative-cache"
          ];
          meta = {
            description = "Remembers the derivations whose builders failed, and does not build them again";
            license = lib.licenses.lgpl21Plus;
            mainProgram = "nix-negative-cache";
          };
        };
    in
    {
      packages = forAllSystems (pkgs: {
        default = pkgs.callPackage plugin { };
      });

      devShells = forAllSystems (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = [
            pkgs.clippy
            pkgs.rustfmt
          ];
        };
      });

      checks = forAllSystems (pkgs: {
        default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      });
    };
}
