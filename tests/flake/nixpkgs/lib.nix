# A small stand-in for the `lib` of nixpkgs, with only as much of it as the project uses. Names and meanings are the same. If
# NNC_NIXPKGS_LIB names the real one, the test takes that instead.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    head
    isAttrs
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    mapAttrs
    match
    removeAttrs
    splitVersion
    ;

  lib = {
    inherit (builtins) concatStringsSep sort;

    # Lists, strings, attributes.
    last = list: elemAt list (length list - 1);
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };
    nameValuePair = name: value: { inherit name value; };
    escapeShellArgs = lib.concatMapStringsSep " " (
      word: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] word}'"
    );
    concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
    genAttrs = names: f: listToAttrs (map (name: lib.nameValuePair name (f name)) names);
    filterAttrs =
      keep: set: removeAttrs set (filter (name: !(keep name set.${name})) (attrNames set));
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    versionOlder = a: b: builtins.compareVersions a b < 0;
    versions.majorMinor =
      version: "${elemAt (splitVersion version) 0}.${elemAt (splitVersion version) 1}";

    # Packages.
    isDerivation = value: value.type or null == "derivation";
    getBin = package: package.bin or package.out or package;
    getMan = package: package.man or package.out or package;
    hiPrio = package: package // { meta = package.meta or { } // { priority = -10; }; };
    licenses.lgpl21Plus = {
      spdxId = "LGPL-2.1-or-later";
    };
    platforms = {
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    };
    fileset = {
      # A file set is a list of paths here, and each path has to exist.
      unions = concatMap (set: if isList set then set else assert builtins.pathExists set; [ set ]);
      difference = from: without: { inherit from without; };
      maybeMissing = path: lib.optional (builtins.pathExists path) path;
      toSource =
        { root, fileset }:
        let
          without = map toString fileset.without;
        in
        assert fileset.from == root;
        builtins.path {
          name = "source";
          path = root;
          filter = path: _: !(elem path without);
        };
    };

    # Options.
    mkOption = attrs: attrs // { _type = "option"; };
    mkEnableOption =
      what:
      lib.mkOption {
        type = lib.types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkOptionDefault = lib.mkOverride 1500;
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;

    types =
      let
        # All definitions have to be equal.
        equal =
          path: values:
          if all (value: value == head values) values then
            head values
          else
            throw "The option `${show path}' has conflicting definition values";
        type = description: check: {
          inherit description check;
          merge = equal;
        };
      in
      {
        bool = type "boolean" builtins.isBool;
        str = type "string" isString;
        int = type "signed integer" isInt;
        float = type "floating point number" builtins.isFloat;
        path = type "absolute path" (
          value: (isString value || builtins.isPath value) && match "/.*" (toString value) != null
        );
        package = type "package" lib.isDerivation;
        raw = type "raw value" (_: true);
        strMatching =
          pattern:
          type "string matching the pattern ${pattern}" (value: isString value && match pattern value != null);
        enum = values: type "one of ${builtins.toJSON values}" (value: elem value values);
        ints = {
          unsigned = type "unsigned integer, meaning >=0" (value: isInt value && value >= 0);
          between =
            low: high:
            type "integer between ${toString low} and ${toString high} (both inclusive)" (
              value: isInt value && low <= value && value <= high
            );
        };
        lines = {
          description = "strings concatenated with \"\\n\"";
          check = isString;
          merge = _: concatStringsSep "\n";
        };
        nullOr = inner: {
          description = "null or ${inner.description}";
          check = value: value == null || inner.check value;
          merge =
            path: values:
            if all (value: value == null) values then
              null
            else if elem null values then
              throw "The option `${show path}' is defined both null and not null"
            else
              inner.merge path values;
        };
        either = a: b: {
          description = "${a.description} or ${b.description}";
          check = value: a.check value || b.check value;
          merge =
            path: values:
            if all a.check values then
              a.merge path values
            else if all b.check values then
              b.merge path values
            else
              equal path values;
        };
        oneOf = types: foldl' lib.types.either (head types) (builtins.tail types);
        listOf = inner: {
          description = "list of ${inner.description}";
          check = isList;
          merge =
            path: lists: concatLists (map (map (value: mergeDefinitions path inner [ value ])) lists);
        };
        attrsOf = inner: {
          description = "attribute set of ${inner.description}";
          check = isAttrs;
          merge =
            path: sets:
            let
              pushed = concatMap pushDown sets;
              names = attrNames (foldl' (a: b: a // b) { } pushed);
              valuesOf = name: concatMap (set: lib.optional (set ? ${name}) set.${name}) pushed;
              defined = filter (name: discharge (valuesOf name) != [ ]) names;
            in
            lib.genAttrs defined (name: mergeDefinitions (path ++ [ name ]) inner (valuesOf name));
        };
      };

    evalModules =
      {
        modules,
        specialArgs ? { },
      }:
      let
        args = specialArgs // {
          inherit lib config options;
        };
        # The module and what it imports, each as a set of imports, options and config.
        load =
          module:
          let
            value = if builtins.isPath module || isString module then import module else module;
            set = if isFunction value then value args else value;
            isFull = set ? options || set ? config;
            unknown = attrNames (
              removeAttrs set [
                "imports"
                "options"
                "config"
                "_file"
                "key"
              ]
            );
            full =
              if !isFull then
                { config = removeAttrs set [ "imports" "_file" "key" ]; }
              else if unknown != [ ] then
                throw "Module has an unsupported attribute `${head unknown}'"
              else
                set;
          in
          # A module that is a file counts once, even if it is imported twice.
          [
            {
              key = if builtins.isPath module || isString module then toString module else null;
              options = full.options or { };
              config = full.config or { };
            }
          ]
          ++ concatMap load (set.imports or [ ]);
        loaded = foldl' (
          sofar: module:
          if module.key != null && all (other: other.key != module.key) sofar || module.key == null then
            sofar ++ [ module ]
          else
            sofar
        ) [ ] (concatMap load modules);
        options = foldl' (a: b: mergeOptions [ ] a b) { } (map (module: module.options) loaded);
        configs = map (module: module.config) loaded;
        config = evaluate [ ] options configs;
        unknown = undeclared [ ] options configs;
      in
      {
        inherit options;
        config = if unknown == [ ] then config else throw "The option `${head unknown}' does not exist";
      };
  };

  show = concatStringsSep ".";

  mergeOptions =
    path: a: b:
    a
    // mapAttrs (
      name: value:
      if !(a ? ${name}) then
        value
      else if a.${name}._type or null == "option" || value._type or null == "option" then
        throw "The option `${show (path ++ [ name ])}' is already declared"
      else
        mergeOptions (path ++ [ name ]) a.${name} value
    ) b;

  # Moves mkIf and mkMerge from around a set to each of its attributes. The condition is not evaluated here, as it may depend on
  # them.
  pushDown =
    value:
    if value._type or null == "merge" then
      concatMap pushDown value.contents
    else if value._type or null == "if" then
      map (mapAttrs (_: lib.mkIf value.condition)) (pushDown value.content)
    else if value._type or null == "override" then
      map (mapAttrs (_: lib.mkOverride value.priority)) (pushDown value.content)
    else
      [ value ];

  # The values that hold, each with its priority.
  dischargeWith =
    priority: value:
    if value._type or null == "merge" then
      concatMap (dischargeWith priority) value.contents
    else if value._type or null == "if" then
      lib.optionals value.condition (dischargeWith priority value.content)
    else if value._type or null == "override" then
      dischargeWith value.priority value.content
    else
      [ { inherit priority value; } ];

  discharge =
    values:
    let
      found = concatMap (dischargeWith 100) values;
      best = foldl' (a: b: if a < b.priority then a else b.priority) 9999 found;
    in
    map (one: one.value) (filter (one: one.priority == best) found);

  mergeDefinitions =
    path: type: values:
    let
      found = discharge values;
      wrong = filter (value: !(type.check value)) found;
    in
    if found == [ ] then
      throw "The option `${show path}' was accessed but has no value defined"
    else if wrong != [ ] then
      throw "A definition for option `${show path}' is not of type `${type.description}'"
    else
      type.merge path found;

  # The definitions of options that do not exist.
  undeclared =
    path: options: configs:
    concatMap (
      set:
      concatMap (
        name:
        let
          here = path ++ [ name ];
        in
        if !(options ? ${name}) then
          [ (show here) ]
        else
          lib.optionals (options.${name}._type or null != "option") (
            undeclared here options.${name} [ set.${name} ]
          )
      ) (attrNames set)
    ) (concatMap pushDown configs);

  evaluate =
    path: options: configs:
    let
      valuesOf = name: concatMap (set: lib.optional (set ? ${name}) set.${name}) (concatMap pushDown configs);
      one =
        name: option:
        let
          here = path ++ [ name ];
          values = valuesOf name;
        in
        if option._type or null != "option" then
          evaluate here option values
        else if option.readOnly or false && length (discharge values) > 1 then
          throw "The option `${show here}' is read-only, but it's set multiple times"
        else
          mergeDefinitions here option.type (
            values ++ lib.optional (option ? default) (lib.mkOptionDefault option.default)
          );
    in
    mapAttrs one options;
in
lib
