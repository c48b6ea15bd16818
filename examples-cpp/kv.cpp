// Key-value storage: set, get, list, expire, delete.
//
//     kv [ENDPOINT]
#include <flowmesh.hpp>

#include <iostream>

using namespace std::chrono_literals;

static void show(const flowmesh::kv &kv, const char *key)
{
    // try_ calls return an error in place of throwing it.
    const auto value = kv.try_get(key);
    if (value)
        std::cout << key << " = " << value->text() << '\n';
    else if (value.status() == flowmesh::status::not_found)
        std::cout << key << " is not there\n";
    else
        value.error().raise();
}

int main(int argc, char **argv)
try {
    const flowmesh::client client(argc > 1 ? argv[1] : nullptr);
    const flowmesh::kv prices = client.open_kv("demo", "cafe", "prices");
    prices.set("price/espresso", "2.20");
    prices.set("price/tea", "1.90");
    flowmesh::set_options for_an_hour;
    for_an_hour.ttl = 1h;
    prices.set("offer/today", "cake", for_an_hour);

    show(prices, "price/espresso");
    show(prices, "price/moonshine");
    std::cout << "keys under price/:";
    for (const flowmesh::view key : prices.list_keys("price/"))
        std::cout << ' ' << key.text();
    std::cout << '\n';
    prices.erase("price/tea");
    std::cout << "price/tea " << (prices.exists("price/tea") ? "is still there" : "is gone")
              << '\n';
} catch (const flowmesh::error &error) {
    std::cerr << "kv: " << error.what() << '\n';
    return 1;
}
