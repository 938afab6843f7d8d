# The module for home-manager, on any Linux with Nix: `nix.negativeCache.enable = true;`
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.nix.negativeCache;
  packages = import ../. { inherit pkgs; };
  inherit (config.nix) package;
  # `extra-plugin-files` keeps the plugins of the system's nix.conf, which `plugin-files` replaces. Nix from 2.33 on only knows
  # `plugin-files`.
  version = (if package == null then pkgs.nix else package).version;
  pluginFiles = if builtins.compareVersions version "2.33" < 0 then "extra-plugin-files" else "plugin-files";
in
{
  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        home.packages = [
          cfg.package
        ]
        # Without a Nix in the user's profile, the shims run the one of the system, which comes later in PATH.
        ++ lib.optional cfg.shim.enable (
          lib.hiPrio (if package == null then packages.shimsOf cfg.package else packages.wrapNix cfg.package package)
        );
      }
      (lib.mkIf (package == null || packages.isSupported package) {
        nix.settings = cfg.nixSettings // {
          ${pluginFiles} = [ "${cfg.package}/${cfg.package.pluginFile}" ];
        };
      })
      (lib.mkIf (package != null && !packages.isSupported package) {
        warnings = [
          ''
            nix.negativeCache is on, but there is no plugin for Nix ${package.version} yet. Nix goes without it until
            nix-negative-cache is updated; it supports ${packages.supportedText}.
          ''
        ];
      })
    ]
  );
}
