# A shell with the tools for work on this project.
{
  pkgs ? import <nixpkgs> { },
}:
(import ./. { inherit pkgs; }).devShell
