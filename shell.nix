# What it takes to work on the project.
{
  pkgs ? import <nixpkgs> { },
}:
(import ./. { inherit pkgs; }).devShell
