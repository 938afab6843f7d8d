# NixOS machines with the module. After a build failed for one user of `machine`, it is refused to every user, and its builder does
# not run again. What failed on `ci` is published there, in a binary cache, and `laptop` refuses it.
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
      users.users.carol.isNormalUser = true;
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
      users.users.bob.isNormalUser = true;
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
    machine.wait_for_unit("nix-daemon.socket")

    # Root opens the store itself. Everybody else asks the daemon, through which a build that failed ends with 1.
    def fails(node, user, command, status):
        got, output = node.execute(f"su - {user} -c '{command}' 2>&1")
        assert got == status, f"{user}, {command}: exit status {got}\n{output}"
        return output

    def runs():
        return int(machine.succeed("wc -l < /var/builds/runs"))

    build = "nix-build --no-out-link /etc/fails.nix"

    with subtest("The configuration is in force, and nothing warns"):
        machine.succeed("nix config show > /tmp/config 2> /tmp/warnings || nix show-config > /tmp/config 2> /tmp/warnings")
        machine.succeed("grep -x 'negative-cache = true' /tmp/config")
        machine.succeed("grep -x 'negative-cache-ttl = 3600' /tmp/config")
        machine.fail("grep -i warning /tmp/warnings")
        print(machine.succeed("nix-negative-cache doctor"))

    with subtest("The state directory has its modes"):
        machine.succeed("stat -c '%a %U' /nix/var/nix/negative-cache | grep -x '755 root'")

    with subtest("A failure is recorded by the daemon"):
        output = fails(machine, "alice", build, 1)
        assert "it is broken" in output and "is not built again" not in output, output
        assert runs() == 1
        machine.succeed("nix-negative-cache list | grep fails")
        machine.succeed("stat -c '%a %U' /nix/var/nix/negative-cache/failures.sqlite | grep -x '644 root'")

    with subtest("It is refused to everybody, with the exit status of a failure"):
        for user, status in [("alice", 1), ("bob", 1), ("root", 100)]:
            output = fails(machine, user, build, status)
            assert "is not built again: it failed" in output, output
            assert "it is broken" in output, output
        assert runs() == 1

    with subtest("The flags are understood, on the new commands as on the old"):
        fails(machine, "alice", f"{build} --negative-cache-retry", 1)
        assert runs() == 2
        fails(machine, "bob", "nix build --no-link -f /etc/fails.nix --negative-cache-retry", 1)
        assert runs() == 3

    with subtest("Only root forgets what the daemon has recorded, and then it is built again"):
        machine.fail("su - bob -c 'nix-negative-cache forget --all'")
        fails(machine, "bob", build, 1)
        assert runs() == 3
        machine.succeed("nix-negative-cache forget --all")
        fails(machine, "root", build, 100)
        assert runs() == 4

    with subtest("What failed on one machine is published there"):
        ci.wait_for_unit("nginx.service")
        ci.wait_for_unit("nix-negative-cache-publish.timer")
        output = fails(ci, "carol", "nix-build --no-out-link /etc/portable.nix", 1)
        assert "it is broken everywhere" in output, output
        ci.succeed("systemctl start nix-negative-cache-publish.service")
        # The journal may have the line a moment later.
        ci.wait_until_succeeds("journalctl -u nix-negative-cache-publish | grep 'published 1 failure'", timeout=60)

    with subtest("Another one refuses it, without building"):
        laptop.wait_for_unit("multi-user.target")
        laptop.wait_until_succeeds("curl -sSf http://ci/nix-cache-info", timeout=60)
        for user, status in [("carol", 1), ("root", 100)]:
            output = fails(laptop, user, "nix-build --no-out-link /etc/portable.nix", status)
            assert "is not built: it failed" in output and "http://ci, key ci-1" in output, output
            assert "it is broken everywhere" in output, output
            assert "building '" not in output, output
  '';
}
