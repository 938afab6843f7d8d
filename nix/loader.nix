# What `plugin-files` names: it opens the plugin for the Nix that it finds itself in. It needs no Nix.
{
  lib,
  stdenv,
  rustPlatform,
}:
let
  common = import ./common.nix { inherit lib; };
  extension = stdenv.hostPlatform.extensions.sharedLibrary;
in
rustPlatform.buildRustPackage {
  pname = "nix-negative-cache-loader";
  inherit (common) version src cargoLock;

  cargoBuildFlags = [ "--package=nix-negative-cache-loader" ];
  cargoTestFlags = [ "--package=nix-negative-cache-loader" ];

  postInstall = ''
    mkdir -p "$out/lib/nix-negative-cache/loader"
    mv "$out"/lib/libnix_negative_cache_loader${extension} \
      "$out/lib/nix-negative-cache/loader/libnix_negative_cache${extension}"
  '';

  meta = common.meta // {
    description = "Loads the nix-negative-cache plugin for the Nix that runs";
  };
}
