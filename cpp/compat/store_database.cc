#include "store_database.hh"
#include "private_member.hh"

namespace negative_cache::compat {

using namespace nix;

struct StateOfStore
{
    friend auto memberOf(StateOfStore);
};

template struct PrivateMember<StateOfStore, &LocalStore::_state>;

/* Calls `read` with each row of a query about `paths`, which it gets as a list in JSON, until `read` returns false. Returns
   whether the store has a database that could be asked. An error is no reason to fail: it only means that it could not. */
template<typename Paths, typename Read>
static bool query(Store & store, const std::string & sql, const Paths & paths, Read && read)
{
    auto local = dynamic_cast<LocalStore *>(&store);
    if (!local)
        return false;
    auto list = nlohmann::json::array();
    for (auto & path : paths)
        list.push_back(store.printStorePath(path));
    try {
#if NIX_AT_LEAST(2, 34)
        auto state = (local->*memberOf(StateOfStore{}))->lock();
#else
        auto state = (local->*memberOf(StateOfStore{})).lock();
#endif
        SQLiteStmt statement(state->db, sql);
        auto row = statement.use();
#if NIX_AT_LEAST(2, 35) || IS_DETERMINATE_NIX
        row.apply(list.dump());
#else
        row(list.dump());
#endif
        while (row.next() && read(row))
            checkInterrupt();
        return true;
    } catch (Interrupted &) {
        throw;
    } catch (BaseError & error) {
        debug("negative cache: cannot read the database of the store: %s", error.what());
        return false;
    }
}

/* A derivation is followed further if it has an output that is not valid. Those of which no output is in the table have
   outputs whose paths follow from the content. */
static constexpr auto unbuiltQuery = R"(
    WITH RECURSIVE reached(id) AS (
        SELECT id FROM ValidPaths WHERE path IN (SELECT value FROM json_each(?))
        UNION
        SELECT Refs.reference FROM reached JOIN Refs ON Refs.referrer = reached.id
        WHERE EXISTS (
            SELECT 1 FROM DerivationOutputs AS output
            WHERE output.drv = reached.id AND NOT EXISTS (SELECT 1 FROM ValidPaths WHERE path = output.path)
        ) OR NOT EXISTS (SELECT 1 FROM DerivationOutputs WHERE drv = reached.id)
    )
    SELECT path, EXISTS (SELECT 1 FROM DerivationOutputs WHERE drv = reached.id)
    FROM reached JOIN ValidPaths USING (id) WHERE path LIKE '%.drv' ORDER BY path
)";

std::optional<StorePaths> unbuiltDerivations(Store & store, const StorePathSet & requested)
{
    StorePaths unbuilt;
    bool areOutputsKnown = true;
    bool asked = query(store, unbuiltQuery, requested, [&](auto & row) {
        unbuilt.push_back(store.parseStorePath(row.getStr(0)));
        return areOutputsKnown = row.getInt(1);
    });
    return asked && areOutputsKnown ? std::optional(std::move(unbuilt)) : std::nullopt;
}

/* More paths than this are as much to look at as what is not built. */
static constexpr size_t mostAbove = 1000;
static constexpr auto aboveQuery = R"(
    WITH RECURSIVE above(id) AS (
        SELECT ValidPaths.id FROM json_each(?) JOIN ValidPaths ON ValidPaths.path = json_each.value
        UNION
        SELECT Refs.referrer FROM above JOIN Refs ON Refs.reference = above.id
        LIMIT %d
    )
    SELECT path FROM above JOIN ValidPaths USING (id)
)";

bool mayNeed(Store & store, const StorePathSet & requested, const StorePaths & derivations)
{
    size_t count = 0;
    bool isRequested = false;
    bool asked = query(store, fmt(aboveQuery, mostAbove), derivations, [&](auto & row) {
        isRequested = requested.count(store.parseStorePath(row.getStr(0)));
        return !isRequested && ++count < mostAbove;
    });
    return isRequested || !asked || count == mostAbove;
}

} // namespace negative_cache::compat
