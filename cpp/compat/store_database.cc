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
#if NIX_AT_LEAST(2, 34)
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

/* A derivation whose outputs are not in the table is one whose output paths follow from the content. */
static const std::string unbuiltQuery = R"(
    WITH RECURSIVE unbuilt(id) AS (
        SELECT id FROM ValidPaths WHERE path IN (SELECT value FROM json_each(?))
        UNION
        SELECT Refs.reference FROM unbuilt JOIN Refs ON Refs.referrer = unbuilt.id
        WHERE EXISTS (
            SELECT 1 FROM DerivationOutputs AS output
            WHERE output.drv = Refs.reference AND NOT EXISTS (SELECT 1 FROM ValidPaths WHERE path = output.path)
        ) OR (
            NOT EXISTS (SELECT 1 FROM DerivationOutputs WHERE drv = Refs.reference)
            AND (SELECT path FROM ValidPaths WHERE id = Refs.reference) LIKE '%.drv'
        )
    )
    SELECT path, EXISTS (SELECT 1 FROM DerivationOutputs WHERE drv = unbuilt.id)
    FROM unbuilt JOIN ValidPaths USING (id) ORDER BY path
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

bool hasAny(Store & store, const StorePaths & paths)
{
    bool any = false;
    bool asked = query(
        store,
        "SELECT 1 FROM json_each(?) JOIN ValidPaths ON ValidPaths.path = json_each.value LIMIT 1",
        paths,
        [&](auto &) {
            any = true;
            return false;
        });
    return any || !asked;
}

} // namespace negative_cache::compat
