let
  drv = name: script: attrs: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
  } // attrs);
in
rec {
  library = drv "library" "echo test 17 failed; exit 1" { };
  program = drv "program" "echo done > $out" { inherit library; };
}
