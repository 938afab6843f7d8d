# Closures of tiny derivations, in the shape of real ones: a chain at the bottom that everything else needs (as stdenv), above
# it a tree with shared branches. All of it is reachable from the top.
rec {
  drv = name: script: inputs: derivation {
    inherit name inputs;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
  };

  ok = "echo done > $out";

  # With `size` derivations; what the bottom of them does is `leaf`.
  closure = { size, tag ? "", leaf ? ok, top ? ok }:
    let
      bottom = if size > 20 then 10 else 0;
      modulo = a: b: a - b * (a / b);
      random = seed: limit: modulo (modulo (seed * 1103515245 + 12345) 2147483648 / 8) limit;
      more = place: count:
        map (n: random (place * 7 + n * 131 + 17) (size - place - 1) + place + 1) (builtins.genList (n: n) count);
      tree = place: builtins.filter (n: n < size - bottom) (map (n: place * 4 + n) [ 1 2 3 4 ]);
      needs = place:
        if place == size - 1 then [ ]
        else if place >= size - bottom then [ (place + 1) ]
        else tree place ++ more place (modulo place 5) ++ (if bottom > 0 then [ (size - bottom) ] else [ ]);
      make = place: drv "package${tag}-${toString place}-1.${toString (modulo place 7)}"
        (if place == 0 then top else if place == size - 1 then leaf else ok)
        (map (builtins.elemAt all) (needs place));
      all = builtins.genList make size;
    in { top = builtins.head all; bottom = builtins.elemAt all (size - 1); };

  # 200 derivations: a chain, a fan, and diamonds.
  builds =
    let
      number = builtins.genList (n: n);
      step = name: n: inputs: drv "${name}-${toString n}" ok inputs;
      chain = builtins.foldl' (below: n: step "chain" n [ below ]) (step "chain" 0 [ ]) (number 50);
      fan = step "fan" 100 (map (n: step "fan" n [ ]) (number 98));
      diamond = below: n:
        step "diamond-bottom" n [ (step "diamond-left" n [ below ]) (step "diamond-right" n [ below ]) ];
      diamonds = builtins.foldl' diamond (step "diamond-top" 0 [ ]) (number 16);
    in step "all" 0 [ chain fan diamonds ];

  # A chain of `size` derivations, each of which needs the one before. The first one fails.
  chain = size:
    let
      step = below: n:
        let next = drv "chain-${toString n}" ok [ below ];
        # Or the derivations would be evaluated from the top, as deep as the chain is long.
        in builtins.seq next.drvPath next;
    in builtins.foldl' step (failing "-chain") (builtins.genList (n: n) (size - 1));

  # `count` derivations that fail, each with one that needs it, and one that needs all of these.
  failures = count:
    let user = n: drv "user-${toString n}" ok [ (failing "-${toString n}") ];
    in drv "all-users" ok (builtins.genList user count);

  one-second = name: inputs: drv name "${ok}; /bin/sleep 1" inputs;
  failing = tag: drv "failing${tag}" "echo it is broken; exit 1" [ ];
}
