// Runs the work in C and in C++ by turns, in one process, and prints the medians of the rates, and
// of the ratios of the two in a round: what slows the machine down for a while slows down both.
//
//     compare ROUNDS GETS MESSAGES
#include "measure.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

static double median(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

static bool compare(const char *what, int rounds, long count, double (*c)(long),
                    double (*cpp)(long))
{
    std::vector<double> in_c, in_cpp, ratios;
    for (int round = 0; round < rounds; round++) {
        // Who comes first changes: whatever the first has against it, both have.
        const bool c_first = round % 2 == 0;
        const double first = c_first ? c(count) : cpp(count);
        const double second = c_first ? cpp(count) : c(count);
        if (first <= 0 || second <= 0)
            return false;
        in_c.push_back(c_first ? first : second);
        in_cpp.push_back(c_first ? second : first);
        ratios.push_back(in_cpp.back() / in_c.back());
    }
    std::printf("| %-36s | %11.0f | %11.0f | %5.3f | %5.3f to %5.3f |\n", what, median(in_c),
                median(in_cpp), median(ratios), *std::min_element(ratios.begin(), ratios.end()),
                *std::max_element(ratios.begin(), ratios.end()));
    return true;
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 21;
    const long gets = argc > 2 ? std::atol(argv[2]) : 20000;
    const long messages = argc > 3 ? std::atol(argv[3]) : 200000;
    std::printf("| %d rounds, medians, per second          |           C |         C++ | ratio | "
                "of the rounds  |\n|---|---|---|---|---|\n",
                rounds);
    if (c_gets(gets / 10 + 1) <= 0 || cpp_gets(gets / 10 + 1) <= 0) // not counted
        return 1;
    return compare("kv get, embedded", rounds, gets, c_gets, cpp_gets) &&
                   compare("messages to a subscription, embedded", rounds, messages, c_messages,
                           cpp_messages)
               ? 0
               : 1;
}
