{
  nixpkgs.hostPlatform = "x86_64-linux";

  nix.negativeCache = {
    enable = true;
    shim.enable = true;
    # All are in `man configuration.nix` under nix.negativeCache.settings.
    settings.ttl = 24 * 60 * 60;
  };
}
