{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.nix-negative-cache.url = "github:OWNER/nix-negative-cache";

  outputs =
    { nixpkgs, nix-negative-cache, ... }:
    {
      nixosConfigurations.machine = nixpkgs.lib.nixosSystem {
        modules = [
          nix-negative-cache.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}
