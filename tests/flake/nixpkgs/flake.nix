# The stand-in for nixpkgs as a flake.
{
  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      lib = (import ./. { system = "x86_64-linux"; }).lib;
    in
    {
      lib = lib // {
        nixosSystem =
          {
            modules,
            specialArgs ? { },
            system ? "x86_64-linux",
          }:
          import ./nixos.nix {
            inherit lib modules specialArgs;
            pkgs = self.legacyPackages.${system};
          };
      };
      legacyPackages = lib.genAttrs systems (system: import ./. { inherit system; });
    };
}
