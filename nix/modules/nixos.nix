# The module for NixOS: `nix.negativeCache.enable = true;`
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.nix.negativeCache;
  packages = import ../. { inherit pkgs; };
  isSupported = packages.isSupported config.nix.package;
in
{
  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        environment.systemPackages = [ cfg.package ];
        # This is a warning, because an upgrade of Nix must not become an error. The settings are left out in this case: NixOS
        # checks nix.conf when it builds it, and rejects settings that no plugin defines.
        warnings = lib.optional (!isSupported) ''
          nix.negativeCache is on, but there is no plugin for Nix ${config.nix.package.version} yet. Nix goes without it
          until nix-negative-cache is updated; it supports Nix ${lib.concatStringsSep ", " packages.supported}.
        '';
      }
      (lib.mkIf isSupported {
        nix.settings = cfg.nixSettings // {
          plugin-files = [ "${cfg.package}/${cfg.package.pluginFile}" ];
        };
      })
      # The folder, as the plugin itself would make it. These rules also repair modes that somebody changed.
      (lib.mkIf (cfg.settings.database == null) {
        systemd.tmpfiles.rules = [
          "d /nix/var/nix/negative-cache 0755 root root - -"
          "z /nix/var/nix/negative-cache/failures.sqlite* 0644 root root - -"
        ];
      })
      (lib.mkIf cfg.shim.enable {
        environment.systemPackages = [ (lib.hiPrio (packages.wrapNix cfg.package config.nix.package)) ];
        # The shim has the place of Nix in PATH, and finds the real Nix in this folder.
        environment.pathsToLink = [ "/lib/nix-negative-cache" ];
      })
    ]
  );
}
