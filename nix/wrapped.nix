# A Nix whose programs take the plugin's flags; everything else is that of `nix`.
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
  # The shim finds the real programs by this link. A variable would do as well, but be in force in all that they start.
  postBuild = ''
    mkdir -p "$out/lib/nix-negative-cache"
    ln -s ${nix.out}/bin "$out/lib/nix-negative-cache/nix-bin"
    for name in ${lib.concatStringsSep " " (import ./programs.nix)}; do
      [ ! -e "$out/bin/$name" ] || ln -sfn ${bundle}/bin/nix-negative-cache-shim "$out/bin/$name"
    done
    ln -s ${bundle}/bin/nix-negative-cache "$out/bin/nix-negative-cache"
  '';
  # As a value of the option `nix.package`, it has to tell which Nix it is; plugins are built against the one inside.
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
