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
  manual = drv "manual" "echo the manual > $out" { };
  program = drv "program" "echo done > $out" { inherit library manual; };
  integration = drv "integration" "read state < ${toString ./.}/server && echo $state > $out" { };
  nightly = drv "nightly" "echo the server does not answer; exit 1" { negativeCache = false; };
}
