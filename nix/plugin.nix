# The plugin for exactly one build of Nix, the package `nix`.
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
  # Its packages have its own version, and pkg-config names the Nix that it is based on. Its libraries say 3.22.2 where the
  # package says 3.22.2pre20260812_0123abc.
  isDeterminate = !lib.versionOlder nix.version "3";
  determinateVersion = builtins.head (builtins.match "([0-9.]+).*" nix.version);
in
rustPlatform.buildRustPackage {
  pname = "nix-negative-cache-plugin";
  inherit (common) version src cargoLock;

  cargoBuildFlags = [ "--package=nix-negative-cache-plugin" ];
  # The functional tests build derivations, which is not possible in a builder. The unit tests of the core run in the package of
  # the companion.
  doCheck = false;

  nativeBuildInputs = [
    pkg-config
  ]
  # The headers of the C API are read since 2.35, with libclang.
  ++ lib.optional (!lib.versionOlder nix.version "2.35") rustPlatform.bindgenHook;
  # A Nix that consists of several libraries propagates the packages that it was built with. These may be other versions than
  # those of nixpkgs, such as another boost.
  buildInputs = [
    nix
    sqlite
  ]
  ++ lib.optionals (!(nix ? libs)) [
    boehmgc
    boost
    nlohmann_json
  ];

  ${if isDeterminate then "DETERMINATE_NIX_VERSION" else null} = determinateVersion;

  # Some functions that the plugin can call are missing in some processes that load it, so functions are looked up when they are
  # called.
  hardeningDisable = [ "bindnow" ];

  # The version of Nix comes from the headers that the plugin was compiled with. That of the package can be another one.
  postInstall = ''
    folder=${if isDeterminate then "determinate-nix-${determinateVersion}" else "nix-$($PKG_CONFIG --modversion nix-store)"}
    mkdir -p "$out/lib/nix-negative-cache/$folder"
    mv "$out/lib/libnix_negative_cache.so" "$out/lib/nix-negative-cache/$folder/"
  '';

  # This checks that Nix has every function that the plugin needs: some functions are in its headers but in none of its
  # libraries.
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
    description = "The nix-negative-cache plugin for ${lib.optionalString isDeterminate "Determinate "}Nix ${nix.version}";
  };
}
