# NixOS machines with the module. After a build failed for one user of a machine, it is refused to every user, and its builder
# does not run again. What failed on `ci` is published there, and `laptop` refuses it.
{ pkgs, nix }:
let
  # A key that is for this test only.
  key = {
    secret = "ci-1:IcfbX5TMGE6Sglz00CwWcBnDbnxEZFYMgtXL1pqzjz/ROyIah1spIFRDyMrDLK9asjgwpVYTIhKiPOhnGTC60A==";
    public = "ci-1:0TsiGodbKSBUQ8jKwyyvWrI4MKVWEyISojzoZxkwutA=";
  };

  # A machine whose builders run in a sandbox, as NixOS has it.
  inSandbox =
    { lib, ... }:
    {
      imports = [ ./modules/nixos.nix ];
      nix.package = nix;
      nix.negativeCache.enable = true;
      nix.settings.substituters = lib.mkForce [ ];
      environment.etc."portable.nix".text = ''
        derivation {
          name = "portable";
          system = builtins.currentSystem;
          builder = "/bin/sh";
          args = [ "-c" "echo it is broken everywhere; exit 3" ];
        }
      '';
    };
in
pkgs.testers.runNixOSTest {
  name = "nix-negative-cache-${nix.version}";

  nodes.machine =
    { lib, ... }:
    {
      imports = [ ./modules/nixos.nix ];
      nix.package = nix;
      nix.negativeCache = {
        enable = true;
        shim.enable = true;
        settings.ttl = 3600;
      };
      nix.settings = {
        experimental-features = [ "nix-command" ];
        # The builder is the machine's own shell, and it counts its runs in a file outside the store.
        sandbox = false;
        substituters = lib.mkForce [ ];
      };
      users.users.alice.isNormalUser = true;
      environment.etc."fails.nix".text = ''
        derivation {
          name = "fails";
          system = builtins.currentSystem;
          builder = "/bin/sh";
          args = [ "-c" "echo run >> /var/builds/runs; echo it is broken; exit 3" ];
        }
      '';
      systemd.tmpfiles.rules = [ "d /var/builds 0777 root root - -" ];
    };

  nodes.ci = {
    imports = [ inSandbox ];
    nix.negativeCache.publish = {
      enable = true;
      to = "file:///var/lib/failures";
      keyFile = "/etc/ci-1.sec";
    };
    environment.etc."ci-1.sec".text = key.secret;
    services.nginx = {
      enable = true;
      virtualHosts.ci.root = "/var/lib/failures";
    };
    networking.firewall.allowedTCPPorts = [ 80 ];
  };

  nodes.laptop = {
    imports = [ inSandbox ];
    nix.negativeCache.settings = {
      trusted-public-keys = [ key.public ];
      substituters = [ "http://ci" ];
    };
  };

  testScript = ''
    start_all()
    machine.wait_for_unit("multi-user.target")

    def runs():
        return int(machine.succeed("cat /var/builds/runs 2>/dev/null | wc -l"))

    with subtest("The configuration is in force, and nothing warns"):
        machine.succeed("nix config show > /tmp/config 2> /tmp/warnings || nix show-config > /tmp/config 2> /tmp/warnings")
        machine.succeed("grep -x 'negative-cache = true' /tmp/config")
        machine.succeed("grep -x 'negative-cache-ttl = 3600' /tmp/config")
        machine.fail("grep -i warning /tmp/warnings")
        machine.succeed("nix-negative-cache doctor")

    with subtest("The state directory has its modes"):
        assert machine.succeed("stat -c '%a %U' /nix/var/nix/negative-cache").strip() == "755 root"

    with subtest("A failure is recorded by the daemon"):
        status, output = machine.execute("su - alice -c 'nix-build --no-out-link /etc/fails.nix' 2>&1")
        assert status == 100, output
        assert runs() == 1
        machine.succeed("nix-negative-cache list | grep fails")
        assert machine.succeed("stat -c %a /nix/var/nix/negative-cache/failures.sqlite").strip() == "644"

    with subtest("It is refused to everybody, with the exit status of a failure"):
        for user in ["alice", "root"]:
            status, output = machine.execute(f"su - {user} -c 'nix-build --no-out-link /etc/fails.nix' 2>&1")
            assert status == 100, output
            assert "is not built again: it failed" in output, output
            assert "it is broken" in output, output
        assert runs() == 1

    with subtest("The flags are understood, on the new commands as on the old"):
        machine.fail("su - alice -c 'nix-build --no-out-link /etc/fails.nix --negative-cache-retry'")
        assert runs() == 2
        machine.fail("su - alice -c 'nix build --no-link -f /etc/fails.nix --negative-cache-retry'")
        assert runs() == 3

    with subtest("What is forgotten is built again"):
        machine.succeed("nix-negative-cache forget --all")
        machine.fail("nix-build --no-out-link /etc/fails.nix")
        assert runs() == 4

    with subtest("What failed on one machine is published there"):
        ci.wait_for_unit("nginx.service")
        ci.wait_for_unit("nix-negative-cache-publish.timer")
        ci.fail("nix-build --no-out-link /etc/portable.nix")
        ci.succeed("systemctl start nix-negative-cache-publish.service")
        ci.succeed("journalctl -u nix-negative-cache-publish | grep 'published 1 failure'")

    with subtest("Another one refuses it, without building"):
        laptop.wait_for_unit("multi-user.target")
        status, output = laptop.execute("nix-build --no-out-link /etc/portable.nix 2>&1")
        assert status == 100, output
        assert "is not built: it failed" in output and "http://ci, key ci-1" in output, output
        assert "it is broken everywhere" in output, output
        assert "building '" not in output, output
  '';
}
