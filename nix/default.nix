# All packages, made from a set of nixpkgs.
{ pkgs }:
let
  inherit (pkgs) lib;

  supported = import ./supported.nix;
  supportedText = "Nix ${lib.concatStringsSep ", " supported.nix}, and Determinate Nix ${lib.concatStringsSep ", " supported.determinate}";

  # The Nix inside a package that `wrapNix` made; any other package stays as it is.
  unwrapped = nix: nix.nixWithoutNegativeCache or nix;
  isSupported = nix: builtins.elem (lib.versions.majorMinor nix.version) (supported.nix ++ supported.determinate);

  # The supported versions that this nixpkgs has. The attribute of a version that nixpkgs removed, or marked as insecure, throws
  # when it is evaluated.
  nixVersions =
    let
      nameOf = version: "nix_" + builtins.replaceStrings [ "." ] [ "_" ] version;
      isThere =
        version:
        let
          nix = pkgs.nixVersions.${nameOf version};
          found = builtins.tryEval (builtins.seq nix.outPath (lib.versions.majorMinor nix.version == version));
        in
        pkgs.nixVersions ? ${nameOf version} && found.success && found.value;
    in
    lib.genAttrs (map nameOf (builtins.filter isThere supported.nix)) (name: pkgs.nixVersions.${name});

  # The default Nix of nixpkgs if it is supported, otherwise the newest one that is.
  nix =
    let
      byVersion = lib.sort (a: b: lib.versionOlder a.version b.version) (builtins.attrValues nixVersions);
    in
    if isSupported pkgs.nix then
      pkgs.nix
    else if byVersion != [ ] then
      lib.last byVersion
    else
      throw "nix-negative-cache: this nixpkgs has none of Nix ${lib.concatStringsSep ", " supported.nix}";

  loader = pkgs.callPackage ./loader.nix { };
  companion = pkgs.callPackage ./companion.nix { };

  # The plugin that is built for exactly this package of Nix.
  pluginFor =
    nix:
    if isSupported nix then
      pkgs.callPackage ./plugin.nix { nix = unwrapped nix; }
    else
      throw "nix-negative-cache: there is no plugin for Nix ${nix.version}, only for ${supportedText}";

  bundleOf = nixes: pkgs.callPackage ./bundle.nix { inherit loader companion; plugins = map pluginFor nixes; };

  # A bundle with the plugins for all supported versions, and for the given packages of Nix if they are supported.
  bundleWith = nixes: bundleOf (builtins.attrValues nixVersions ++ [ nix ] ++ builtins.filter isSupported nixes);

  shimsOf = bundle: pkgs.callPackage ./shims.nix { inherit bundle; };

  # This Nix with the shim. The flags only work if the bundle has a plugin for it.
  wrapNix = bundle: nix: pkgs.callPackage ./wrapped.nix { inherit bundle; nix = unwrapped nix; };
in
rec {
  inherit
    supportedText
    isSupported
    nixVersions
    nix
    loader
    companion
    pluginFor
    bundleOf
    bundleWith
    shimsOf
    wrapNix
    ;

  bundle = bundleWith [ ];
  shims = shimsOf bundle;
  plugins = builtins.mapAttrs (_: pluginFor) nixVersions;

  # The flake's `packages`.
  packages = {
    default = bundle;
    nix-negative-cache = bundle;
    inherit loader companion shims;
    nix = wrapNix bundle nix;
  }
  // lib.mapAttrs' (name: plugin: lib.nameValuePair "plugin-${name}" plugin) plugins;

  devShell = pkgs.mkShell {
    inputsFrom = [
      (pluginFor nix)
      companion
    ];
    packages = [
      pkgs.clippy
      pkgs.rustfmt
    ];
  };
}
