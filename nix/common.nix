# What all packages share: version, source and licence.
{ lib }:
{
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  # Everything that cargo reads. Files that it does not read are left out, as a change to them would rebuild everything for no
  # reason.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.difference ../. (
      lib.fileset.unions [
        ../nix
        ../flake.nix
        ../default.nix
        ../shell.nix
        (lib.fileset.maybeMissing ../flake.lock)
        (lib.fileset.maybeMissing ../target)
        (lib.fileset.maybeMissing ../.git)
      ]
    );
  };

  cargoLock.lockFile = ../Cargo.lock;

  meta = {
    description = "Remembers the derivations whose builders failed, and does not build them again";
    license = lib.licenses.lgpl21Plus;
    platforms = lib.platforms.linux;
  };
}
