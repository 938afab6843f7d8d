# NixOS: `nix.negativeCache.enable = true;`
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
        # Not an error: an upgrade of Nix must not be one. But nix.conf is checked when it is built, and settings that no
        # plugin defines are wrong there.
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
      # As the plugin itself would make it; here it is put right as well if its modes were changed.
      (lib.mkIf (cfg.settings.database == null) {
        systemd.tmpfiles.rules = [
          "d /nix/var/nix/negative-cache 0755 root root - -"
          "z /nix/var/nix/negative-cache/failures.sqlite* 0644 root root - -"
        ];
      })
      (lib.mkIf cfg.shim.enable {
        environment.systemPackages = [ (lib.hiPrio (packages.wrapNix cfg.package config.nix.package)) ];
        # From there the shim knows the real Nix, whose place in PATH it has.
        environment.pathsToLink = [ "/lib/nix-negative-cache" ];
      })
    ]
  );
}
