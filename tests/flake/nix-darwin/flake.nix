# A stand-in for nix-darwin.
{
  inputs.nixpkgs.url = "nixpkgs";
  outputs =
    { nixpkgs, ... }:
    {
      lib.darwinSystem =
        {
          modules,
          specialArgs ? { },
        }:
        import "${nixpkgs}/nixos.nix" {
          inherit (nixpkgs) lib;
          inherit modules specialArgs;
          pkgs = nixpkgs.legacyPackages.aarch64-darwin;
          kind = "darwin";
        };
    };
}
