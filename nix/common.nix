# What all packages have in common.
{ lib }:
{
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  # All that cargo reads. What is left out here is built anew for no reason when it changes.
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
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
