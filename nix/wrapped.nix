# The package `nix`, but with the shim in place of the programs that take the plugin's flags.
{
  lib,
  symlinkJoin,
  bundle,
  nix,
}:
symlinkJoin {
  name = "nix-with-negative-cache-${nix.version}";
  paths = [
    nix.out
    (lib.getMan nix)
  ];
  # The shim finds the real programs through this link. An environment variable would also work, but every program that they
  # start would inherit it.
  postBuild = ''
    mkdir -p "$out/lib/nix-negative-cache"
    ln -s ${nix.out}/bin "$out/lib/nix-negative-cache/nix-bin"
    for name in ${lib.concatStringsSep " " (import ./programs.nix)}; do
      [ ! -e "$out/bin/$name" ] || ln -sfn ${bundle}/bin/nix-negative-cache-shim "$out/bin/$name"
    done
    ln -s ${bundle}/bin/nix-negative-cache "$out/bin/nix-negative-cache"
  '';
  # The package can be the value of the option `nix.package`, so it has a version. Plugins are built against the Nix inside.
  passthru = {
    inherit (nix) version;
    inherit bundle;
    nixWithoutNegativeCache = nix;
  };
  meta = {
    description = "Nix ${nix.version} with the flags of nix-negative-cache";
    mainProgram = "nix";
    inherit (bundle.meta) license platforms;
  };
}
