# The module for NixOS: `nix.negativeCache.enable = true;`
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;
  cfg = config.nix.negativeCache;
  packages = import ../. { inherit pkgs; };
  isSupported = packages.isSupported config.nix.package;

  publish =
    lib.optionals (cfg.settings.database != null) [
      "--database"
      cfg.settings.database
    ]
    ++ [
      "publish"
      "--to"
      cfg.publish.to
    ]
    ++ lib.optionals (cfg.publish.keyFile != null) [
      "--key-file"
      cfg.publish.keyFile
    ]
    ++ cfg.publish.extraArguments;
in
{
  imports = [ ./options.nix ];

  options.nix.negativeCache.publish = {
    enable = mkEnableOption "a timer that publishes failures of this machine in a binary cache";

    to = mkOption {
      type = types.str;
      example = "s3://cache?region=eu-west-1";
      description = "The binary cache, as {command}`nix copy --to` takes it.";
    };

    keyFile = mkOption {
      # A path of Nix would be copied to the store, where everybody can read it.
      type = types.nullOr (types.strMatching "/.*");
      default = null;
      example = "/etc/nix/ci-1.sec";
      description = ''
        The file with the secret key that signs the failures, as {command}`nix-store --generate-binary-cache-key` makes it. It
        has to be text, such as `"/etc/nix/ci-1.sec"`. With `null`, the cache signs by itself; then {option}`extraArguments`
        has to name its key.
      '';
    };

    interval = mkOption {
      type = types.str;
      default = "hourly";
      description = "When to publish, as in {manpage}`systemd.time(7)`. It begins up to 5 minutes later.";
    };

    extraArguments = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = literalExpression ''[ "--no-log" ]'';
      description = "Other arguments of {command}`nix-negative-cache publish`.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        environment.systemPackages = [ cfg.package ];
        # This is a warning, because an upgrade of Nix must not become an error. The settings are left out in this case: NixOS
        # checks nix.conf when it builds it, and rejects settings that no plugin defines.
        warnings = lib.optional (!isSupported) ''
          nix.negativeCache is on, but there is no plugin for Nix ${config.nix.package.version} yet. Nix goes without it
          until nix-negative-cache is updated; it supports ${packages.supportedText}.
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
      (lib.mkIf (isSupported && cfg.publish.enable) {
        # As root, who owns the records of nix-daemon.
        systemd.services.nix-negative-cache-publish = {
          description = "Publish build failures in a binary cache";
          wants = [ "network-online.target" ];
          after = [ "network-online.target" ];
          # ssh is for caches that are stores on other machines.
          path = [
            config.nix.package
            config.programs.ssh.package
          ];
          script = "exec ${cfg.package}/bin/nix-negative-cache ${lib.escapeShellArgs publish}";
          serviceConfig.Type = "oneshot";
        };
        systemd.timers.nix-negative-cache-publish = {
          description = "Publish build failures in a binary cache";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnCalendar = cfg.publish.interval;
            # Machines with the same cache do not all come at once.
            RandomizedDelaySec = "5min";
            Persistent = true;
          };
        };
      })
      (lib.mkIf cfg.shim.enable {
        environment.systemPackages = [ (lib.hiPrio (packages.wrapNix cfg.package config.nix.package)) ];
        # The shim has the place of Nix in PATH, and finds the real Nix in this folder.
        environment.pathsToLink = [ "/lib/nix-negative-cache" ];
      })
    ]
  );
}
