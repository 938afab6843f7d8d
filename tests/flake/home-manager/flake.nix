# A stand-in for home-manager.
{
  inputs.nixpkgs.url = "nixpkgs";
  outputs =
    { nixpkgs, ... }:
    {
      lib.homeManagerConfiguration =
        {
          pkgs,
          modules,
          extraSpecialArgs ? { },
        }:
        import "${nixpkgs}/nixos.nix" {
          inherit (nixpkgs) lib;
          inherit pkgs modules;
          specialArgs = extraSpecialArgs;
          kind = "home";
        };
    };
}
