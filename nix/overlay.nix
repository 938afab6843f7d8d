# An overlay with one name: `pkgs.nix-negative-cache` is the package with all plugins. Everything else is an attribute of it.
final: _: {
  nix-negative-cache =
    let
      all = import ./. { pkgs = final; };
    in
    all.bundle
    // {
      inherit (all)
        bundleWith
        companion
        loader
        pluginFor
        plugins
        shims
        wrapNix
        ;
    };
}
