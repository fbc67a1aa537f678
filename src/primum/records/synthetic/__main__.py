"""Print the marginals of the default population."""

from primum.records.synthetic.marginals import marginals_table
from primum.records.synthetic.settings import SyntheticSettings

if __name__ == "__main__":
    print(marginals_table(SyntheticSettings(), seed=0))
