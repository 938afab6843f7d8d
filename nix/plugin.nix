# The plugin for exactly one build of Nix, `nix`.
{
  lib,
  stdenv,
  rustPlatform,
  pkg-config,
  boehmgc,
  boost,
  nlohmann_json,
  sqlite,
  nix,
}:
let
  common = import ./common.nix { inherit lib; };
in
rustPlatform.buildRustPackage {
  pname = "nix-negative-cache-plugin";
  inherit (common) version src cargoLock;

  cargoBuildFlags = [ "--package=nix-negative-cache-plugin" ];
  # The functional tests build derivations, which a builder may not, and the core's are the companion's.
  doCheck = false;

  nativeBuildInputs = [ pkg-config ];
  # The development files of a Nix in several libraries bring along what it was built with, which may be another boost than
  # that of nixpkgs.
  buildInputs = [
    nix
    sqlite
  ]
  ++ lib.optionals (!(nix ? libs)) [
    boehmgc
    boost
    nlohmann_json
  ];

  # Not all that the plugin can call is in every process that loads it: functions are looked up when they are called.
  hardeningDisable = [ "bindnow" ];

  # The version is that which the plugin was compiled for, whatever the package says of itself.
  postInstall = ''
    version=$($PKG_CONFIG --modversion nix-store)
    mkdir -p "$out/lib/nix-negative-cache/nix-$version"
    mv "$out"/lib/libnix_negative_cache${stdenv.hostPlatform.extensions.sharedLibrary} \
      "$out/lib/nix-negative-cache/nix-$version/"
  '';

  # Whether this Nix has all that the plugin needs: some functions are in its headers, but in none of its libraries.
  doInstallCheck = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  installCheckPhase = ''
    runHook preInstallCheck
    there=$(
      export HOME=$TMPDIR NIX_CONF_DIR=$TMPDIR NIX_STORE_DIR=$TMPDIR/store NIX_STATE_DIR=$TMPDIR/var LD_BIND_NOW=1
      export NIX_CONFIG="plugin-files = $(echo "$out"/lib/nix-negative-cache/*/*)"
      ${lib.getBin nix}/bin/nix-instantiate --eval -E 'builtins ? knownFailure'
    )
    [ "$there" = true ]
    runHook postInstallCheck
  '';

  passthru = { inherit nix; };
  meta = common.meta // {
    description = "The nix-negative-cache plugin for Nix ${nix.version}";
  };
}
