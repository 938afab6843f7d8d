{
  description = "A Nix plugin that remembers the derivations whose builders failed, and does not build them again";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = forAllSystems (pkgs: (import ./nix { inherit pkgs; }).packages);
      devShells = forAllSystems (pkgs: {
        default = (import ./nix { inherit pkgs; }).devShell;
      });
      checks = forAllSystems (pkgs: import ./nix/checks.nix { inherit pkgs; });

      overlays.default = import ./nix/overlay.nix;
      lib = {
        # withNegativeCache pkgs (pkgs.mkShell { … }): the same shell with the plugin and its flags.
        withNegativeCache = import ./nix/with-negative-cache.nix;
        # pluginFor pkgs nix: the plugin that is built for exactly this package of Nix.
        pluginFor = pkgs: (import ./nix { inherit pkgs; }).pluginFor;
      };

      # Modules are named by their paths: a module that is imported twice then counts once.
      nixosModules.default.imports = [ ./nix/modules/nixos.nix ];
      homeModules.default.imports = [ ./nix/modules/home.nix ];

      templates = {
        default = self.templates.project;
        project = {
          path = ./nix/templates/project;
          description = "A project whose dev shell has nix-negative-cache, with direnv";
        };
        nixos = {
          path = ./nix/templates/nixos;
          description = "A NixOS configuration with nix-negative-cache";
        };
      };
    };
}
