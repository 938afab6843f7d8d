# The companion under the names of Nix's programs, to stand in PATH before a Nix.
{
  lib,
  runCommand,
  bundle,
}:
runCommand "nix-negative-cache-shims-${bundle.version}"
  {
    inherit bundle;
    passthru = { inherit bundle; };
    meta = bundle.meta // {
      description = "Nix's programs with the flags of nix-negative-cache, to stand in PATH before a Nix";
    };
  }
  ''
    mkdir -p "$out/bin"
    ln -s "$bundle/share" "$out/share"
    for name in nix-negative-cache ${lib.concatStringsSep " " (import ./programs.nix)}; do
      ln -s "$bundle/bin/nix-negative-cache" "$out/bin/$name"
    done
  ''
