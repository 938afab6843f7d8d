# Everything in one folder: the loader, the plugins for several Nix, the companion program.
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

  # The companion finds the loader beside its own real path, and the loader finds the plugins so: both are copied. Of two
  # plugins for the same version, the last one stays.
  installPhase = ''
    runHook preInstall
    mkdir -p "$out"
    cp -r --no-preserve=ownership "$companion/." "$out"
    chmod -R u+w "$out"
    mkdir -p "$out/lib/nix-negative-cache"
    cp -r --no-preserve=ownership "$loader/lib/nix-negative-cache/loader" "$out/lib/nix-negative-cache/loader"
    for plugin in $plugins; do
      for folder in "$plugin"/lib/nix-negative-cache/nix-*; do
        ln -sfnT "$folder" "$out/lib/nix-negative-cache/''${folder##*/}"
      done
    done
    runHook postInstall
  '';

  passthru = {
    inherit loader companion plugins;
    # What `plugin-files` names.
    pluginFile = "lib/nix-negative-cache/loader/libnix_negative_cache${stdenvNoCC.hostPlatform.extensions.sharedLibrary}";
  };
  meta = common.meta // {
    mainProgram = "nix-negative-cache";
  };
}
