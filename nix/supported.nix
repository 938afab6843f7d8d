# The releases that there is a plugin for: of Nix, and of Determinate Nix, whose packages have a version of their own. Everything
# else in this folder takes them from these lists.
{
  nix = [
    "2.8"
    "2.18"
    "2.24"
    "2.26"
    "2.28"
    "2.30"
    "2.31"
    "2.34"
    "2.35"
    "2.36"
  ];
  determinate = [
    "3.21"
    "3.22"
  ];
}
