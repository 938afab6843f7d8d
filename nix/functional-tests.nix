# The functional tests on one version of Nix, as an ordinary user in a builder. What can't be tested there is left out by name
# below. The tests of NixOS have some of it, and `./dev test` all of it.
{
  lib,
  rustPlatform,
  pkg-config,
  procps,
  sqlite,
  strace,
  util-linux,
  nix,
  plugin,
  bundle,
}:
let
  common = import ./common.nix { inherit lib; };

  sandbox = "A builder can't make a sandbox of its own.";
  users = "A builder is one ordinary user.";
  mounts = "A builder can't mount anything.";
  system = "It needs more of a system than a builder has.";
  everyNix = "It has nothing to do with which Nix it is.";

  # Files of tests that are left out, and why.
  leftOutFiles = {
    attacks = users;
    cache_attacks = sandbox;
    caches = sandbox;
    causes = sandbox;
    clients = users;
    deb = system;
    doctor = users;
    flake = everyNix;
    hydra = system;
    long = "It takes too long.";
    machines = mounts;
    manual = everyNix;
    program = sandbox;
    publish = sandbox;
    report = system;
    servers = system;
    sessions = users;
    shim = system;
    versions = "It needs a second Nix.";
    watch = users;
  };

  # Tests of other files that are left out, and why.
  leftOut = {
    a_daemon_with_the_plugin_is_asked = users;
    a_full_disk = mounts;
    a_home_that_does_not_exist = users;
    a_hook_gets_nothing_of_the_process_that_starts_it = system;
    a_read_only_file_system = mounts;
    another_machine = sandbox;
    however_the_daemon_is_started = users;
    no_permission = users;
    others_may_write_to_it = users;
    root_starts_no_hook_that_others_can_change = users;
    the_hook_of_a_daemon_is_its_own = users;
    while_a_request_runs = users;
    who_may_not_write_refuses_and_counts_nothing = mounts;
    with_a_plugin_that_may_not_be_read = users;
    without_the_rights_it_is_said_which_one_is_missing = users;
  };

  files = builtins.concatMap (
    name:
    let
      file = builtins.match "(.*)[.]rs" name;
    in
    lib.optionals (file != null && !leftOutFiles ? ${builtins.head file}) file
  ) (builtins.attrNames (builtins.readDir ../tests));

  # What the log says of what is left out.
  said =
    lib.mapAttrsToList (file: why: "all tests of ${file}.rs. ${why}") leftOutFiles
    ++ lib.mapAttrsToList (test: why: "${test}. ${why}") leftOut;
in
rustPlatform.buildRustPackage {
  pname = "nix-negative-cache-functional-tests";
  version = "${common.version}-nix-${nix.version}";
  inherit (common) src cargoLock;

  nativeBuildInputs = [ pkg-config ];
  nativeCheckInputs = [
    procps
    (lib.getBin sqlite)
    strace
    util-linux
  ];
  # Some tests compile plugins of their own.
  inherit (plugin) buildInputs;
  # Their libraries lack functions on purpose.
  hardeningDisable = [ "all" ];

  # There is nothing to build and install but the tests.
  dontBuild = true;
  checkType = "debug";
  cargoTestFlags = [
    "--package=nix-negative-cache-tests"
  ]
  ++ map (file: "--test=${file}") files;
  checkFlags = [ "--exact" ] ++ map (test: "--skip=${test}") (builtins.attrNames leftOut);
  preCheck = ''
    export NNC_NIX_BIN=${lib.getBin nix}/bin NNC_PATH=$PATH NNC_SHORT=1
    export NNC_PLUGIN=${bundle}/${bundle.pluginFile} NNC_COMPANION=${bundle}/bin/nix-negative-cache
    printf 'Left out: %s\n' ${lib.escapeShellArgs said}
  '';
  installPhase = ''
    touch "$out"
  '';
  dontFixup = true;

  passthru = { inherit leftOut leftOutFiles; };
  meta = common.meta // {
    description = "Functional tests of nix-negative-cache on Nix ${nix.version}";
  };
}
