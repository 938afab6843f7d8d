# What the modules for NixOS and home-manager share: the options, and the settings in nix.conf that follow from them.
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
  packages = import ../. { inherit pkgs; };
  cfg = config.nix.negativeCache;

  option =
    name: setting:
    mkOption {
      type = types.nullOr setting.type;
      default = null;
      description = ''
        ${setting.description}

        This is the setting `negative-cache-${name}` of {file}`nix.conf`. With `null` it is not written there; the plugin's
        own default is `${builtins.toJSON setting.default}`.
      '';
    };
in
{
  options.nix.negativeCache = {
    enable = mkEnableOption "nix-negative-cache, with which Nix does not build again what failed";

    package = mkOption {
      type = types.package;
      default = packages.bundleWith (lib.optional (config.nix.package != null) config.nix.package);
      defaultText = literalExpression "the plugins for all supported versions of Nix, and for `config.nix.package`";
      description = ''
        The loader, the plugins and the companion program. A Nix that it has no plugin for warns and does without.
      '';
    };

    settings = builtins.mapAttrs option (import ../settings.nix { inherit lib; });

    shim.enable = mkEnableOption (
      "a program before Nix's own in PATH that takes the flags of the plugin, "
      + "such as {option}`--negative-cache-retry`"
    );

    nixSettings = mkOption {
      type = types.attrsOf types.raw;
      internal = true;
      readOnly = true;
      description = "The settings as {option}`nix.settings` takes them.";
    };
  };

  config.nix.negativeCache.nixSettings = {
    negative-cache = true;
  }
  // lib.mapAttrs' (name: lib.nameValuePair "negative-cache-${name}") (
    lib.filterAttrs (_: value: value != null) cfg.settings
  );
}
