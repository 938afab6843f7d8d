# nix-darwin: `nix.negativeCache.enable = true;`
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
        # Without `nix.enable` nobody may ask for `nix.package`.
        assertions = [
          {
            assertion = config.nix.enable;
            message = ''
              nix.negativeCache needs nix.enable. Where nix-darwin does not manage Nix, name the plugin in the nix.conf of
              whatever does.
            '';
          }
        ];
      }
      (lib.mkIf config.nix.enable {
        environment.systemPackages = [ cfg.package ];
        warnings = lib.optional (!isSupported) ''
          nix.negativeCache is on, but there is no plugin for Nix ${config.nix.package.version} yet. Nix goes without it
          until nix-negative-cache is updated; it supports Nix ${lib.concatStringsSep ", " packages.supported}.
        '';
      })
      (lib.mkIf (config.nix.enable && cfg.shim.enable) {
        environment.systemPackages = [ (lib.hiPrio (packages.wrapNix cfg.package config.nix.package)) ];
        # From there the shim knows the real Nix, whose place in PATH it has.
        environment.pathsToLink = [ "/lib/nix-negative-cache" ];
      })
      (lib.mkIf (config.nix.enable && isSupported) {
        nix.settings = cfg.nixSettings // {
          plugin-files = [ "${cfg.package}/${cfg.package.pluginFile}" ];
        };
      })
      (lib.mkIf (config.nix.enable && cfg.settings.database == null) {
        system.activationScripts.extraActivation.text = ''
          install -d -m 0755 -o root -g wheel /nix/var/nix/negative-cache
        '';
      })
    ]
  );
}
