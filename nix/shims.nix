# The shim under the names of Nix's programs, for a folder that comes before Nix's own in PATH, and the companion program.
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
    ln -s "$bundle/bin/nix-negative-cache" "$out/bin/nix-negative-cache"
    for name in ${lib.concatStringsSep " " (import ./programs.nix)}; do
      ln -s "$bundle/bin/nix-negative-cache-shim" "$out/bin/$name"
    done
  ''
