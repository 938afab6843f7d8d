# The loader, which `plugin-files` names: it opens the plugin for the Nix that loads it. It is not linked to Nix.
{
  lib,
  rustPlatform,
}:
let
  common = import ./common.nix { inherit lib; };
in
rustPlatform.buildRustPackage {
  pname = "nix-negative-cache-loader";
  inherit (common) version src cargoLock;

  cargoBuildFlags = [ "--package=nix-negative-cache-loader" ];
  cargoTestFlags = [ "--package=nix-negative-cache-loader" ];

  postInstall = ''
    mkdir -p "$out/lib/nix-negative-cache/loader"
    mv "$out/lib/libnix_negative_cache_loader.so" "$out/lib/nix-negative-cache/loader/libnix_negative_cache.so"
  '';

  meta = common.meta // {
    description = "Loads the nix-negative-cache plugin for the Nix that runs";
  };
}
