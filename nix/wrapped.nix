# A Nix whose programs take the plugin's flags; everything else is that of `nix`.
{
  lib,
  symlinkJoin,
  makeBinaryWrapper,
  bundle,
  nix,
}:
symlinkJoin {
  name = "nix-with-negative-cache-${nix.version}";
  paths = [
    nix.out
    (lib.getMan nix)
  ];
  nativeBuildInputs = [ makeBinaryWrapper ];
  # The shim goes by the name that it is called by.
  postBuild = ''
    for name in ${lib.concatStringsSep " " (import ./programs.nix)}; do
      [ -e "$out/bin/$name" ] || continue
      rm "$out/bin/$name"
      makeBinaryWrapper ${bundle}/bin/nix-negative-cache "$out/bin/$name" \
        --inherit-argv0 --set NIX_NEGATIVE_CACHE_NIX_BIN ${nix.out}/bin
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
