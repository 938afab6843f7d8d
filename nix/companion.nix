# The program `nix-negative-cache` with its documentation, and the shim. Neither is linked to Nix.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  pkg-config,
  sqlite,
}:
let
  common = import ./common.nix { inherit lib; };
in
rustPlatform.buildRustPackage {
  pname = "nix-negative-cache-companion";
  inherit (common) version src cargoLock;

  cargoBuildFlags = [ "--package=nix-negative-cache" ];
  cargoTestFlags = [
    "--package=nix-negative-cache"
    "--package=nix-negative-cache-core"
  ];

  nativeBuildInputs = [
    installShellFiles
    pkg-config
  ];
  buildInputs = [ sqlite ];

  postInstall = ''
    mkdir -p "$out/share/doc/nix-negative-cache"
    cp README.md CHANGELOG.md SECURITY.md docs/*.md "$out/share/doc/nix-negative-cache/"
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    mkdir man
    "$out/bin/nix-negative-cache" man man
    installManPage man/*.1
    installShellCompletion --cmd nix-negative-cache \
      --bash <("$out/bin/nix-negative-cache" completions bash) \
      --fish <("$out/bin/nix-negative-cache" completions fish) \
      --zsh <("$out/bin/nix-negative-cache" completions zsh)
  '';

  meta = common.meta // {
    description = "Looks at and forgets the failures that the nix-negative-cache plugin recorded";
    mainProgram = "nix-negative-cache";
  };
}
