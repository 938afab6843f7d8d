{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.nix-negative-cache.url = "github:OWNER/nix-negative-cache";

  outputs =
    { nixpkgs, nix-negative-cache, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      devShells = forAllSystems (pkgs: {
        default = nix-negative-cache.lib.withNegativeCache pkgs (
          pkgs.mkShell {
            packages = [ pkgs.hello ];
          }
        );
      });
    };
}
