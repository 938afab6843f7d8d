# One package with everything: the loader, the plugins for several versions of Nix, and the companion program.
{
  lib,
  stdenvNoCC,
  loader,
  companion,
  plugins,
}:
let
  common = import ./common.nix { inherit lib; };
in
stdenvNoCC.mkDerivation {
  pname = "nix-negative-cache";
  inherit (common) version;
  inherit loader companion plugins;

  dontUnpack = true;
  dontFixup = true;

  # The companion looks for the loader beside its own real path, and the loader looks for the plugins in the same way, so both
  # are copied here. If two plugins are for the same version, the last one is taken.
  installPhase = ''
    runHook preInstall
    mkdir -p "$out"
    cp -r --no-preserve=ownership "$companion/." "$out"
    chmod -R u+w "$out"
    mkdir -p "$out/lib/nix-negative-cache"
    cp -r --no-preserve=ownership "$loader/lib/nix-negative-cache/loader" "$out/lib/nix-negative-cache/loader"
    for plugin in $plugins; do
      for folder in "$plugin"/lib/nix-negative-cache/*nix-*; do
        ln -sfnT "$folder" "$out/lib/nix-negative-cache/''${folder##*/}"
      done
    done
    runHook postInstall
  '';

  passthru = {
    inherit loader companion plugins;
    # The path to name in `plugin-files`, inside this package.
    pluginFile = "lib/nix-negative-cache/loader/libnix_negative_cache.so";
  };
  meta = common.meta // {
    mainProgram = "nix-negative-cache";
  };
}
