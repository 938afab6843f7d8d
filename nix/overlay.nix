# Everything under one name: `pkgs.nix-negative-cache` is the package with all plugins, the rest is in its attributes.
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
