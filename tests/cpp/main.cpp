// Ends the library's threads after the tests, so that valgrind sees what is left: nothing.
#include "test.hpp"

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    // Programs that are to die run anew, without the threads of this one.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const int result = RUN_ALL_TESTS();
    flowmesh::shutdown(patience);
    return result;
}
