# All settings of the plugin except `negative-cache` itself. Their names here lack the prefix `negative-cache-`. The defaults
# are those of the plugin.
{ lib }:
let
  inherit (lib) types;
  seconds = types.ints.unsigned;
in
{
  retry = {
    type = types.bool;
    default = false;
    description = "Whether to build even what is known to fail, and record how it ends.";
  };
  action = {
    type = types.enum [
      "fail"
      "warn"
    ];
    default = "fail";
    description = ''
      What to do about a derivation that is known to fail: `fail` refuses to build it, `warn` says that it failed before, and
      builds it.
    '';
  };
  database = {
    type = types.strMatching "/.*";
    default = "";
    description = ''
      The file of the failure database. By default, {file}`negative-cache/failures.sqlite` in the state directory of the
      store.
    '';
  };
  ttl = {
    type = seconds;
    default = 604800;
    description = "For how many seconds a failure is believed; 0 is for ever.";
  };
  max-ttl = {
    type = seconds;
    default = 7776000;
    description = "For how many seconds a failure is believed at most, however often it was confirmed; 0 is for ever.";
  };
  min-failures = {
    type = types.ints.between 1 32;
    default = 1;
    description = "How often in a row a derivation must have failed before it is refused.";
  };
  transient-exit-codes = {
    type = types.listOf (types.ints.between 1 255);
    default = [ 75 ];
    description = "The exit codes with which a builder says that its failure will pass, so that it is not recorded.";
  };
  timeouts = {
    type = types.bool;
    default = false;
    description = ''
      Whether to record what {option}`timeout`, {option}`max-silent-time` and {option}`max-build-log-size` ended, too.
    '';
  };
  fixed-output = {
    type = types.bool;
    default = false;
    description = "Whether to record failures of fixed-output derivations and of `builtin:` builders, too.";
  };
  max-records = {
    type = types.ints.unsigned;
    default = 100000;
    description = "How many failures the database keeps.";
  };
  trusted-public-keys = {
    # The name of the key, and 32 bytes in base 64, as the plugin checks them.
    type = types.listOf (types.strMatching "[!-9;-~]{1,100}:[A-Za-z0-9+/]{43}=");
    default = [ ];
    description = ''
      The public keys of those who are believed when they publish in a binary cache that a build failed. If there is none, no
      cache is asked. These keys are apart from {option}`trusted-public-keys`.
    '';
  };
  substituters = {
    type = types.listOf (types.strMatching "[^[:space:]]+");
    default = [ ];
    description = ''
      The binary caches that are asked whether a build is known to fail. If there is none here, those of
      {option}`substituters`.
    '';
  };
  timeout = {
    type = seconds;
    default = 5;
    description = ''
      For how many seconds a request waits at most until binary caches have said what is known to fail.
    '';
  };
  hook = {
    type = types.path;
    default = "";
    description = ''
      A program that is started after a failure was recorded, with the record as JSON on its standard input. Nobody waits for
      it. Root's is only started if root alone can write to it, as in the store.
    '';
  };
}
