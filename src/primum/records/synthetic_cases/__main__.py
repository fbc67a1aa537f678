"""Print the marginals of the default cases."""

from primum.records.synthetic_cases.marginals import marginals_table

if __name__ == "__main__":
    print(marginals_table(seed=0))
